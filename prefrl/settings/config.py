"""The dataclasses behind every command and every saved run: the one place where a default is written.

A field that is `None` takes the value documented for the environment's family in `prefrl.settings.presets`; the run
folder's `config.toml` records the value it took. This module imports the standard library alone, so that `--help` is
instant.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

MOST_BYTES = 1 << 20  # of a run's config.toml
MOST_STEPS = 10**12  # of a run
AT_THE_START = "start"  # the reference that is the policy as its training begins
Config = TypeVar("Config", bound="BaselineConfig")
TRUE_REWARD = "true reward"  # the arm that every other is compared with
USUAL_K = 4  # segments in a ranking, or to choose the best from


PATHS = ("out", "reward_from", "constitution")  # fields that are paths


@dataclass(frozen=True)
class BaselineConfig:
    """A learner on the true reward: the curve that every learned reward is compared with."""

    env: str = "HalfCheetah-v5"
    """Gymnasium id, or "package:Id-v0" to import a package first."""
    steps: int = 1_000_000
    """Environment steps over all parallel environments, everything included; exactly this many are taken."""
    seed: int = 0
    """Seeds everything: environments, networks, questions, labelers."""
    learner: str = "ppo"
    """ppo, a2c, trpo; of those that replay what they have seen sac, td3, tqc, or pebble (SAC as PEBBLE has it); or an
    import path "package.module:Class" to a class of stable-baselines3's."""
    preset: str | None = None
    """Whose settings to begin from: mujoco, classic, pixels, continuous or discrete. Default: by what the environment
    is; a run says as it begins which it took, and why."""
    set: tuple[str, ...] = ()
    """Learner settings that replace the family's, as name=value: learning_rate=1e-4 n_steps=64."""
    env_kwargs: tuple[str, ...] | None = None
    """Arguments of the environment, as name=value. Default: by family (unhealthy termination off on MuJoCo)."""
    wrapper: tuple[str, ...] | None = None
    """Wrappers around it, innermost first, each with its arguments:
    "gymnasium.wrappers:RescaleAction min_action=-1 max_action=1". Default: what it needs, which a run says."""
    fixed_horizon: bool = False
    """Let every episode last to its time limit, even one that ends early (see `prefrl.FixedHorizon`)."""
    n_envs: int | None = None
    """Environments stepped in parallel. Default: by family."""
    backend: str = "auto"
    """What steps the environments: envpool, vector (a class that the environment registers), gymnasium (its single
    class, in turn), subprocess (the same in several processes), or an import path "package.module:backend"; auto takes
    the fastest that serves the id."""
    workers: int | None = None
    """Processes that step the environments of a slow simulator, a share of them each. Default: none but this one."""
    explore_steps: int | None = None
    """Steps taken by the untrained policy before learning begins (part of `steps`). Default: 2 % of `steps`."""
    unsupervised: bool | None = None
    """Take the untrained policy's steps by one that learns to reach states unlike those it has seen, as PEBBLE does;
    only a learner that replays can. Default: where it can."""
    phases: int = 50
    """Times that reward, statistics and log are refreshed during training."""
    session_steps: int | None = None
    """Steps from one such time, and session of questions, to the next, in place of `phases`."""
    reward_window: int | None = None
    """Newest steps over which the reward given to the learner has zero mean and standard deviation `reward_std`, of
    those that a run with labels keeps (20,000 on pixels); where episodes end early, root mean square `reward_std`.
    Default: 50,000; of a learner that replays, all that it replays."""
    reward_std: float | None = None
    """Standard deviation of the reward given to the learner. Default: by family (MuJoCo 0.1, Atari 0.05, else 1); of a
    learner that replays 1."""
    clip_reward: bool | None = None
    """Clip the true reward to [-1, 1] before it is scaled. Default: the environment's metadata["clip_reward"]."""
    device: str = "auto"
    """auto, cpu or cuda. auto is cuda only for image observations: small networks are faster on a CPU."""
    arm: str | None = None
    """What tables and figures call runs that differ in their seed alone. Default: "true reward", or "700 labels"."""
    out: Path | None = None
    """Folder of the run; must not exist. Default: runs/ENV/ARM-seedN."""
    checkpoint_every: int | None = None
    """Steps between two checkpoints, at least, from which a stopped run goes on; 0 keeps none. Environments are made
    anew at each. Default: ten of the longest episodes in every environment."""
    tensorboard: bool = True
    """Write TensorBoard events beside metrics.csv."""
    wandb: str | None = None
    """Weights & Biases project to log to as well (needs the wandb extra)."""
    kl_beta: float | None = None
    """Pay r - beta (log pi - log pi_ref) in place of r: what a nat of divergence from the reference costs, in log-odds
    of the answers, or in units of the true reward. Default: 0 (nothing), or with kl_target 0.2 to begin with."""
    kl_target: float | None = None
    """Adapt kl_beta, phase by phase, to so many nats of divergence from the reference in an episode."""
    reference: str | None = None
    """What kl_beta holds the policy near: start (the policy as its training begins), a run's folder, or a
    policy.safetensors; {env} and {seed} stand for this run's. With kl_beta 0 the divergence is measured, and costs
    nothing. Default: start."""
    start_from: str | None = None
    """Begin with the weights and the observation statistics of a saved policy: a run's folder, or a policy.safetensors;
    {env} and {seed} stand for this run's."""
    demonstrations: tuple[str, ...] = ()
    """Begin with the behaviour of others, cloned: runs' folders, whose policies act anew, local Minari datasets, or
    what `prefrl revise` kept."""
    demonstration_steps: int = 10_000
    """Steps that the policy of each run acts as a demonstration; they are none of `steps`."""
    cloning_epochs: int = 20
    """Passes over the demonstrations, at most: those are kept that make a held-out tenth most likely."""

    @classmethod
    def of(cls: type[Config], **values: Any) -> Config:
        """A configuration of objects, where Python has them: `TrainConfig.of(env=make_env, set={"gamma": 0.99})`.

        An environment, a labeler, a strategy, a schedule, a learner's class or a backend may be an object, `set` and
        `env_kwargs` dicts (`prefrl.settings.objects`), and a path text.

        Raises:
            UserError: one of them can be told in no name.
        """
        from prefrl.settings.objects import names

        paths = {name: Path(values[name]) for name in PATHS if isinstance(values.get(name), str)}
        return cls(**{**values, **names(values), **paths})


@dataclass(frozen=True)
class PreferenceConfig(BaselineConfig):
    """What every run that learns its reward shares."""

    labeler: str = "oracle"
    """Who answers: oracle, human (people, at `prefrl label`), judge (by a constitution), or an import path
    "package.module:factory"."""
    constitution: Path | None = None
    """The judge's principles, a TOML file: predicates on observations and actions, or questions that are put to a
    language or vision model. See `prefrl.queries.constitution`."""
    patience: float = 0.0
    """Seconds that a phase waits for people to answer all that is open; 0 trains on, inf waits for every answer."""
    keep_up: float = 0.5
    """While people have answered less than this share of the questions asked, training slows down ..."""
    slowdown: float = 10.0
    """... so that a phase takes up to this many times as long as it would."""
    oracle_after: float | None = None
    """Seconds after which the oracle answers, under its own name, what people have left. Default: never."""
    second_opinions: float = 0.0
    """Share of the questions that two people answer, to see how far they agree."""
    store: str | None = None
    """URL of a database for questions and answers, such as postgresql+psycopg://user@host/name, password elsewhere
    (PGPASSWORD or ~/.pgpass). Default: labels.sqlite in the run's folder."""
    question: Literal["pair", "ranking", "best"] = "pair"
    """What is asked: which of two segments is better, the order of K, or the best of K."""
    k: int | None = None
    """Segments in a ranking, or to choose the best from. Default: 4."""
    likelihood: Literal["plackett-luce", "all-pairs"] = "plackett-luce"
    """What a ranking tells: the best of all, then of the rest, and so on; or every two of it, which weigh one."""
    margin: float = 0.0
    """Log-odds by which r-hat must prefer what people call much better (Llama 2: 1 or 3); 0 does not ask how much."""
    labels_from: tuple[str, ...] = ()
    """Answers to start from, besides `labels`: run folders, stores, or folders that `prefrl labels export` wrote."""
    teachers: tuple[str, ...] = ("oracle",)
    """Annotators that share the oracle's questions: oracle, stochastic, soft, mistake, skip, equal, myopic, right90,
    or settings such as beta=1,gamma=0.9 or accuracy=0.8."""
    strategy: str | None = None
    """Which pairs are asked: disagreement, uniform, entropy, member_entropy, information_gain, coverage,
    coverage_disagreement, or an import path. Default: disagreement; of a direct method uniform."""
    pairs: Literal["any", "same-start"] | None = None
    """Which segments are compared: any two, or same-start, two that begin an episode and show the same there. Default:
    any, or same-start where the environment's metadata["same_start"] says so."""
    candidates: int = 10
    """Pairs sampled for each one asked (paper: 10)."""
    schedule: str = "annealed"
    """When labels are asked: annealed (the paper's), constant, exponential, hyperbolic, or an import path."""
    session_labels: int | None = None
    """Questions of each session, the first included, until the labels are spent, in place of `schedule`."""
    demonstration_labels: int = 0
    """Answers that nobody is asked for, besides `labels`: so many segments of the demonstrations, each taken to be
    better than one of the policy as it begins."""
    rounds: int = 0
    """Ask the labels in so many equal parts, each before an equal stretch of training in which the reward stays as its
    answers, and all before them, have made it; 0 asks them as `schedule` says, and the reward goes on learning."""
    initial_labels: float | None = None
    """Share of the labels asked about the untrained policy, before training. Default: by family (0.25; Atari 0.09)."""
    segment_steps: int | None = None
    """Steps in a segment. Default: the environment's metadata["segment_steps"], else by id and family."""
    keep_steps: int | None = None
    """Newest steps, over all environments, that questions are drawn from. Default: by family."""
    members: int = 3
    """Networks in the reward ensemble (paper: 3)."""
    entropy_bonus: float | None = None
    """Entropy bonus of the policy on top of the learner's own (paper: 0.01 with TRPO). Default: by family."""
    noise_floor: float = 0.1
    """Chance that the labeler answers at random, assumed by the likelihood (paper: 0.1)."""
    reward_learning_rate: float | None = None
    """Adam's step size for the reward ensemble. Default: by family."""
    batch: int | None = None
    """Answers in a minibatch of the reward's fit. Default: by family."""
    initial_epochs: int | None = None
    """Passes over the first answers, before training. Default: by family (paper: 200 on Atari)."""
    fit_updates: int | None = None
    """Gradient steps of the reward's fit per phase, a fixed budget however many answers there are. Default: by
    family."""
    objective: Literal["preference", "target"] = "preference"
    """What r-hat is fitted to: the answers, or by least squares the true returns of the segments asked about (paper,
    section 3.3: a labeler who gives numbers)."""
    reward_at: Literal["step", "end"] = "step"
    """Where r-hat is paid: at every step, or an episode's sum at its end, as a text is paid that is judged whole."""
    overlap: bool = False
    """Fit the reward on a second thread while the policy learns from that of the phase before (the paper trains the
    two asynchronously). The same seed still gives the same bytes."""
    freeze_reward_at: float = 1.0
    """Share of the phases after which r-hat stays as it is; the labels are asked before."""
    l2: float | None = None
    """First weight of the L2 penalty, adapted so that held-out loss stays within 1.1 to 1.5 of training loss; 0 turns
    it off. Default: by family."""
    max_answers: int | None = None
    """Fit to this many newest answers only (paper: 3,000 on Atari). Default: by family, all on MuJoCo."""
    method: str = "reward"
    """How answers become behaviour: reward (a learner on a learned reward), a direct method, whose policy is fitted to
    the answers itself (dpo, ipo, cpl, cpl_kl), or an import path "package.module:function"."""
    beta: float | None = None
    """Direct methods: what a nat of log-probability is worth, in log-odds of an answer; DPO's beta, IPO's tau, CPL's
    alpha. Default: 0.1; cpl_kl 0.2."""
    label_smoothing: float | None = None
    """dpo: share of the answers that are taken to be the wrong way round (conservative DPO). Default: 0."""
    conservative: float | None = None
    """cpl, cpl_kl: weight on the segment not chosen, CPL's lambda; 1 is unbiased. Default: 0.5; cpl_kl 0.75."""
    segment_discount: float | None = None
    """cpl, cpl_kl: discount of later steps in a segment. Default: 1."""
    clone_segments: Literal["none", "all", "preferred"] | None = None
    """Direct methods: the segments asked about that the policy is first fitted to by maximum likelihood; what comes of
    it is the reference. Default: all with labels_from, and of cpl and cpl_kl; else none."""
    clone_epochs: int | None = None
    """Direct methods: passes over these segments. Default: 20."""
    held_out: float | None = None
    """Direct methods: share of the answers that are held out, to measure by. Default: 0.1."""


@dataclass(frozen=True)
class TrainConfig(PreferenceConfig):
    """Learn a reward from answers, and a policy from that reward alone (Christiano et al. 2017)."""

    labels: int = 700
    """Questions asked in all, exactly; a skipped one counts. 0 with `reward_from`."""
    reward_from: Path | None = None
    """Pay the finished reward of this run's folder, frozen, and ask nothing: a fresh policy shows what it is worth.
    {env} and {seed} in it stand for this run's, as folders have them."""


@dataclass(frozen=True)
class CompareConfig(PreferenceConfig):
    """Learned reward beside true reward: every arm and seed, a table, a figure. Finished runs are not run again."""

    labels: tuple[int, ...] = (700,)
    """Label budgets, an arm each; the true reward is always an arm too."""
    seeds: int = 3
    """Seeds per arm: seed, seed + 1, ..."""
    jobs: int = 2
    """Runs at a time; each takes about a core."""
    out: Path | None = None
    """Folder of the runs, compare.csv, compare.md and compare.png. Default: runs/compare/ENV."""


@dataclass(frozen=True)
class LabelConfig:
    """Show people the questions of a run, on a web page, and record what they answer."""

    run: Path
    """Folder of the run, which may still be training."""
    host: str = "127.0.0.1"
    """Address to listen at. Any but this machine's own needs the token that is printed."""
    port: int = 8321
    """Port to listen at; 0 for a free one."""
    allow_host: tuple[str, ...] = ()
    """Further names by which browsers may call this server."""
    instruction: str | None = None
    """What people are told to look for. Default: by task."""
    camera: str | None = None
    """Camera of a MuJoCo model, by name or number. Default: the environment's own."""
    trust: bool = False
    """Import the environment's package, and call the database's host, that the run's folder names."""


@dataclass(frozen=True)
class LabelsConfig:
    """Answers in and out: export RUN, import or merge into a store, stats of a run."""

    action: Literal["export", "import", "merge", "stats"]
    """export writes files, import and merge add to a store what is not there yet, stats says who answered what."""
    places: tuple[str, ...]
    """Run folders, stores (a file or a URL), or folders that export wrote."""
    out: str | None = None
    """export: the new folder, or the Minari dataset's id; import and merge: the store, new or old."""
    format: Literal["parquet", "jsonl", "minari"] = "parquet"
    """What export writes; minari holds the segments alone."""
    trust: bool = False
    """Call the database's host that a run's folder names, and import the package that the environment of a Minari
    dataset needs."""
    env_kwargs: tuple[str, ...] | None = None
    """minari: arguments of the environment, as name=value, of a store without a run. Default: as the run had them."""


@dataclass(frozen=True)
class VideoConfig:
    """Film what a run's policy does."""

    run: Path
    """Folder of the run."""
    out: Path | None = None
    """The film: .mp4, .webp or .gif. Default: policy.mp4 in the run's folder."""
    seconds: float = 8.0
    """Length, in the robot's own time, unless an episode ends before."""
    camera: str | None = None
    """Camera of a MuJoCo model, by name or number. Default: the environment's own."""
    seed: int = 0
    """Of the first state."""
    trust: bool = False
    """Import the environment's package that the run's folder names."""


def arm_name(config: BaselineConfig) -> str:
    """What tables and figures call this run's arm."""
    if config.arm or not isinstance(config, TrainConfig):
        return config.arm or TRUE_REWARD
    return _budget(config) + ("" if config.method == "reward" else f", {config.method}")


def _budget(config: TrainConfig) -> str:
    k = config.k or USUAL_K
    asked = {"pair": "labels", "ranking": f"rankings of {k}", "best": f"best of {k}"}
    return f"{config.labels} {asked[config.question]}"


def folder_name(config: BaselineConfig) -> str:
    """What a run's folder is called, among those of its environment."""
    usual = "true-reward"
    if isinstance(config, TrainConfig):
        usual = f"labels{config.labels}" if config.question == "pair" else slug(_budget(config))
        usual += "" if config.method == "reward" else f"-{slug(config.method)}"
    return f"{slug(config.arm) if config.arm else usual}-seed{config.seed}"


def slug(name: str) -> str:
    """The name as a single folder's."""
    return re.sub(r"[^\w.+=-]+", "-", name).strip("-.") or "-"


def to_toml(config: BaselineConfig) -> dict[str, Any]:
    """The configuration as TOML values; fields that are None, which TOML cannot say, are left out."""
    kind = (
        TrainConfig if isinstance(config, TrainConfig) else BaselineConfig
    )  # what was resolved is said by the same keys
    values = {field.name: getattr(config, field.name) for field in fields(kind)}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in plain.items() if v is not None}


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
        UserError: no such file, or not TOML.
    """
    from prefrl.words.errors import UserError

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration {str(path)!r}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: a number of too many digits, a bad date
        said = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{str(path)!r} is not TOML: {said:.200}.") from error


def from_toml(kind: type[Config], path: Path) -> Config:
    """A configuration of this kind read from a TOML file; keys are the field names.

    Raises:
        UserError: no such file, not TOML, an unknown key, or a value of the wrong type.
    """
    return from_values(kind, read_toml(path), repr(str(path)))


def read_run(folder: Path) -> BaselineConfig:
    """The configuration of a run's folder, a baseline's or one with a learned reward.

    Raises:
        UserError: as `from_toml`, or it holds numbers that no run has.
    """
    from prefrl.words.errors import UserError
    from prefrl.words.files import read_text

    path = folder / "config.toml"
    read_text(path, MOST_BYTES)  # somebody else's may be no file, or never end
    config = from_toml(TrainConfig if "labels" in read_toml(path) else BaselineConfig, path)
    if not config.env.strip():
        raise UserError(f"{str(path)!r} names no environment: give the folder of a run.")
    ranges = {"steps": (1, MOST_STEPS), "segment_steps": (1, config.steps), "seed": (0, 2**31 - 1)}
    for name, (least, most) in (ranges | {"noise_floor": (0, 1)}).items():
        value = getattr(config, name, least)
        if value is None or not least <= value <= most:  # written so that NaN is refused as well
            raise UserError(f"{str(path)!r} sets {name} = {value!s:.40}, which no run has: give the folder of a run.")
    return config


def from_values(kind: type[Config], values: Mapping[str, Any], source: str) -> Config:
    """A configuration of this kind from TOML values by field name.

    Args:
        kind: of the configuration.
        values: as `tomllib` reads them; nothing is changed.
        source: who sets them, for the error message.

    Raises:
        UserError: an unknown key, or a value of the wrong type.
    """
    from prefrl.words.errors import UserError
    from prefrl.words.lookup import did_you_mean

    known = {field.name: str(field.type) for field in fields(kind)}
    read: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise UserError(
                f"{source} sets {name!r}, which {kind.__name__} does not have."
                f"{did_you_mean(name, known) or ' It has ' + ', '.join(known) + '.'}"
            )
        allowed = {
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": isinstance(value, int | float) and not isinstance(value, bool),
            "str": isinstance(value, str),
            "Path": isinstance(value, str),
            "bool": isinstance(value, bool),
            "tuple[str, ...]": isinstance(value, list) and all(isinstance(item, str) for item in value),
            "tuple[int, ...]": isinstance(value, list) and all(type(item) is int for item in value),
        }
        if not any(
            fits and allowed_kind in known[name].split(" | ") for allowed_kind, fits in allowed.items()
        ) and not (known[name].startswith("Literal") and repr(value) in known[name]):
            raise UserError(f"{source} sets {name} = {value!r}: it takes {known[name].replace(' | None', '')}.")
        read[name] = Path(value) if "Path" in known[name] else tuple(value) if isinstance(value, list) else value
    return kind(**read)
