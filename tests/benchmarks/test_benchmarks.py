"""What the README claims is what the committed data says."""

from itertools import pairwise

import torch

from benchmarks import loop, question, speed_peer


def test_every_committed_run_is_whole():
    outcomes = question.outcomes(loop.QUESTION)
    assert len({o.task for o in outcomes}) == 3
    for arm in ("true reward", "700 labels"):
        for task in {o.task for o in outcomes}:
            assert len({o.seed for o in outcomes if (o.task, o.arm) == (task, arm)}) >= 3
    assert all(o.curve[0][-1] == 1_000_000 for o in outcomes)


def test_the_limit_of_a_fit_is_every_product_of_an_update_once():
    sizes, steps = (23, 64, 64, 1), 40
    products = speed_peer._products(sizes, steps)
    with torch.profiler.profile(with_flops=True) as seen:
        speed_peer._repeat(products, 1)
    layers = [fan_in * fan_out for fan_in, fan_out in pairwise(sizes)]
    once = 2 * speed_peer.MEMBERS * steps * sum(layers)
    of_the_inputs = 2 * speed_peer.MEMBERS * steps * layers[0]  # of which nobody wants the gradient
    assert sum(event.flops for event in seen.events()) == 3 * once - of_the_inputs
