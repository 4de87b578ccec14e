"""Your quantizer beside the library's: accuracy of the shipped MobileNet-v3 with weights of few bits.

``python notebooks/teaching/project/score.py``: just quantized, a minute.  ``--train``: after an epoch on 2 000 images
as well, ten minutes on two cores.
"""
import argparse

import my_quantizer  # noqa: F401  (registers "mine")
import pandas as pd
import torch

from paperlib import models
from paperlib.data.cifar10_batches import Batches
from paperlib.data.cifar10_images import cifar10
from paperlib.models import Scheme
from paperlib.training.engine import Trainer, begin
from paperlib.training.evaluation import evaluate
from paperlib.training.phases import Phase

METHODS, BITS = ("mine", "duq", "lsq", "sawb"), (4, 3, 2)


def data(train_images: int = 2000, test_images: int = 1000) -> tuple[Batches, Batches]:
    """Batches of CIFAR-10 for training and for the score; the embedded subset where there is no more."""
    train, test = cifar10("auto")
    return (Batches(train.stratified(train_images), 100, train=True, seed=0),
            Batches(test.stratified(test_images), 500, train=False))


def score(method: str, bits: int, train: Batches, test: Batches, epochs: int = 0) -> float:
    """Validation accuracy (%) with weights by ``method`` and float activations, after ``epochs`` of training."""
    torch.manual_seed(0)
    phase = Phase("score", epochs, lr=0.01, warmup_epochs=0, bn_momentum=0.1, quantizer_lr=1.0,
                  scheme=Scheme(method, w_bits=bits, a_bits=32, negative_padding=False))
    net = models.build("mobilenet_v3_large", width=0.5, weights="CIFAR10_V1")
    net = begin(net, phase, next(iter(train.epoch()))[0])
    if epochs:
        Trainer(net, phase, train, test, seed=0).run()
    return evaluate(net, test)["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", action="store_true", help="also after an epoch of training")
    epochs, (train, test) = (0, 1) if parser.parse_args().train else (0,), data()
    whole = models.build("mobilenet_v3_large", width=0.5, weights="CIFAR10_V1")
    print(f"float weights: {evaluate(whole, test)['accuracy']:.1f} %")
    scores = {(f"after {n} epoch" if n else "just quantized", f"{bits} bits"): {
        method: score(method, bits, train, test, n) for method in METHODS} for n in epochs for bits in BITS}
    print(f"weights of few bits, accuracy in percent:\n{pd.DataFrame(scores).round(1).to_string()}")


if __name__ == "__main__":
    main()
