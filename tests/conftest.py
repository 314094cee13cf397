"""One torch thread for every test; annotations of `prefrl`, array shapes included, are checked whenever it is called."""

from collections.abc import Iterator

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("prefrl", "helpers.checked")  # before anything imports prefrl


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks on shared cores: a second thread costs far more than it gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
