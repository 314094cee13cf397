"""A saved policy as stable-baselines3's own file, for programs that know nothing of this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.policies.learners import learner_class
from prefrl.policies.policy import Policy
from prefrl.words.errors import UserError


def export_policy(policy: Policy, learner: str, env: Any, path: Path) -> Path:
    """Write a policy as `learner`'s .zip, which its `load` reads: `PPO.load("policy.zip").predict(observation)`.

    The normalisation of observations goes into the first layer's weights, so that the file needs nothing beside it. It
    does not clip what lies more than ten deviations out, as the run did.

    Args:
        policy: that was saved.
        learner: the run's.
        env: as the run had it.
        path: of the file.

    Raises:
        UserError: it is of a kind that has no such file, or cannot be written there.
    """
    if not isinstance(policy.policy, ActorCriticPolicy):
        raise UserError(f"a policy of learner {learner!r} cannot be written as a .zip: those of ppo, a2c and trpo can.")
    about = policy.policy._get_constructor_parameters()
    kept = (
        "net_arch",
        "activation_fn",
        "features_extractor_class",
        "features_extractor_kwargs",
        "share_features_extractor",
    )
    algorithm: Any = learner_class(learner)
    model = algorithm(
        "CnnPolicy" if policy.mean is None else "MlpPolicy",
        DummyVecEnv([lambda: env]),
        policy_kwargs={name: about[name] for name in kept if name in about},
        use_sde=policy.policy.use_sde,
        **({"n_steps": 8, "batch_size": 8} if "batch_size" in algorithm.__init__.__code__.co_varnames else {}),
        device="cpu",
    )
    model.policy.load_state_dict(policy.policy.state_dict())
    if policy.mean is not None and policy.std is not None:
        mean, std = torch.as_tensor(policy.mean), torch.as_tensor(policy.std)
        with torch.no_grad():
            for layer in _first_layers(model.policy):
                layer.weight.div_(std.to(layer.weight.dtype))
                layer.bias.sub_(layer.weight @ mean.to(layer.weight.dtype))
    try:
        model.save(path)
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror}; give another file.") from error
    return path


def _first_layers(policy: ActorCriticPolicy) -> list[torch.nn.Linear]:
    """The layers that observations come into: of the actor and of the critic."""
    found = []
    for net, head in (
        (policy.mlp_extractor.policy_net, policy.action_net),
        (policy.mlp_extractor.value_net, policy.value_net),
    ):
        layers = [layer for layer in net.modules() if isinstance(layer, torch.nn.Linear)]
        found.append(layers[0] if layers else head)
    return found  # type: ignore[return-value]
