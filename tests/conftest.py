"""What tests share.  Figures that tests and notebooks under test draw go to a folder of their own."""
import os
import tempfile

import pytest
import torch

os.environ["PAPERLIB_FIGURES"] = tempfile.mkdtemp(prefix="paperlib-figures-")


@pytest.fixture(scope="module")
def one_thread():
    """Torch computes with one thread, so that numbers do not depend on the machine's cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
