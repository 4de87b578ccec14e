"""Sentences of the papers that no run bears on yet, or that none here can."""
from __future__ import annotations

from .verdict import NOT_RECORDED, Verdict

# notebook: (claim, where it stands, what is missing, whether it could be tested here)
SENTENCES = {
    "profit_supp_s5_bn_folding": [
        ("MobileNet-v1 with folded batch norms fails at 4 bits as well", "PROFIT, supplement, section 5",
         "missing: runs of MobileNet-v1", True)],
    "qil_fig4_5_intervals": [
        ("Weights trained at few bits have distributions of quite another shape", "QIL, section 4.1 and Fig. 5",
         "missing: float trained as long", True)],
    "qil_table3_4_imagenet": [
        ("On ImageNet distillation alone (lambda 1) lowers the accuracy", "QIL, section 4.2 and Table 3", NOT_RECORDED,
         True),
        ("QIL is above PACT, DoReFa, HWGQ and BalancedQ on ImageNet", "QIL, section 4.2 and Table 4",
         "ImageNet and the other methods' networks", False)],
}


def verdicts(notebook: str) -> list[Verdict]:
    """List the sentences that belong to a notebook, without evidence."""
    return [Verdict.of(claim, where, [], needs=needs, testable=testable)
            for claim, where, needs, testable in SENTENCES.get(notebook, ())]
