import pytest
import torch
from torch import nn

from recallk.models.vector_head import Residual, make_vector_head


@pytest.mark.parametrize(("head", "layers"), [("linear", 1), ("mlp", 2), ("residual", 3)])
def test_heads_by_name(head: str, layers: int) -> None:
    made = make_vector_head(head, 6, 4)  # type: ignore[arg-type]
    assert made(torch.ones(3, 6)).shape == (3, 4)
    assert sum(isinstance(part, nn.Linear) for part in made.modules()) == layers


def test_a_residual_head_begins_as_the_vectors_are() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(5, 6)
    same = Residual(6, 6)
    assert torch.allclose(same(vectors) @ same(vectors).T, vectors @ vectors.T, atol=1e-5), "a turn"
    fewer = Residual(6, 4).straight.weight
    assert torch.allclose(fewer @ fewer.T, torch.eye(4), atol=1e-6)


def test_both_parts_of_a_residual_head_learn() -> None:
    torch.manual_seed(0)
    head = Residual(6, 4)
    optimizer = torch.optim.SGD(head.parameters(), 0.1)
    before = [parameter.detach().clone() for parameter in head.parameters()]
    for _ in range(2):  # the branch's first layer sees a gradient once the last one has moved
        optimizer.zero_grad()
        torch.autograd.backward(head(torch.randn(8, 6)).square().sum())
        optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, head.parameters(), strict=True))
