"""A language or vision model behind an address: asked about two clips, once for each order, and never twice the same.

What is sent is OpenAI's chat completion, which most servers of models understand (vLLM, Ollama, llama.cpp and the
clouds). Replies are kept on disk under a hash of what was sent, so that a run that is resumed, or made again, pays for
nothing twice and gets the same words.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from prefrl.queries.constitution import Endpoint
from prefrl.words.errors import UserError, install
from prefrl.words.files import write_whole

FORM = (
    "Look at both clips first. Say in one or two sentences what each does that bears on the question. Then end with a "
    "line that holds one word alone: A if clip A answers the question better, B if clip B does, EQUAL if neither does, "
    "UNSURE if it cannot be told."
)
VERDICT = re.compile(r"\b(A|B|EQUAL|UNSURE)\b")
WEIGHTS = {"A": 1.0, "B": 0.0, "EQUAL": 0.5, "UNSURE": None}
MOST_NUMBERS = 12  # of an observation, so that a clip stays readable


@dataclass(frozen=True)
class Clip:
    """What a model is shown of a segment: pictures (T, h, w, 3), or its observations and actions, row by row."""

    frames: NDArray[np.uint8] | None
    observations: NDArray[Any]
    actions: NDArray[Any]


@dataclass(frozen=True)
class Verdict:
    """What a model said of two clips.

    Attributes:
        weight: on the first clip: 1, 0 or 0.5; None where it could not tell, or its reply had no verdict.
        words: its reply.
    """

    weight: float | None
    words: str


class ModelClient:
    """Puts questions about two clips to a model, several at a time.

    Args:
        endpoint: where, and how.
        cache: folder in which replies are kept; made when first needed.

    Attributes:
        requests: that were sent and answered.
        cached: questions whose reply was there already.
        input_tokens, output_tokens: that the server counted.

    Raises:
        UserError: the package that calls it is not installed, or its key is not set.
    """

    def __init__(self, endpoint: Endpoint, cache: Path) -> None:
        try:
            import openai
        except ImportError as error:
            raise UserError(f"a judge that asks a model needs the package openai: {install('judge')}.") from error
        key = os.environ.get(endpoint.key, "") if endpoint.key else "none needed"
        if not key:
            raise UserError(
                f"the key of {endpoint.url} is to be in the environment variable {endpoint.key}, which is not set: set "
                f'it, or write key = "" under [endpoint] where none is needed.'
            )
        self.endpoint, self.cache = endpoint, cache
        self.requests = self.cached = self.input_tokens = self.output_tokens = 0
        self._client = openai.OpenAI(
            base_url=endpoint.url, api_key=key, timeout=endpoint.timeout_s, max_retries=endpoint.retries
        )

    @property
    def cost(self) -> float:
        """What the tokens cost, in the currency of the endpoint's prices."""
        each = (self.input_tokens, self.endpoint.input_price), (self.output_tokens, self.endpoint.output_price)
        return sum(tokens * price for tokens, price in each) / 1e6

    def ask(self, about: str, asked: Sequence[tuple[str, Clip, Clip]]) -> list[Verdict]:
        """The model's verdicts on questions, each with the clips it calls A and B.

        Raises:
            UserError: the server is away, too slow, refuses, or replies with something else, after every retry.
        """
        sent = [self._request(about, *each) for each in asked]
        with ThreadPoolExecutor(self.endpoint.parallel) as pool:
            return [_verdict(words) for words in pool.map(self._reply, sent)]

    def _request(self, about: str, question: str, first: Clip, second: Clip) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": f"{about}\n\n{question}\n\n{FORM}".strip()}]
        for name, clip in (("A", first), ("B", second)):
            content.append({"type": "text", "text": f"Clip {name}:"})
            content += self._shown(clip)
        return {
            "model": self.endpoint.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": self.endpoint.temperature,
            "max_tokens": self.endpoint.max_tokens,
        }

    def _shown(self, clip: Clip) -> list[dict[str, Any]]:
        steps = len(clip.observations)
        chosen = np.unique(np.linspace(0, steps - 1, min(self.endpoint.frames, steps)).round().astype(int))
        if self.endpoint.shows == "frames":
            assert clip.frames is not None
            return [{"type": "image_url", "image_url": {"url": _as_url(clip.frames[step])}} for step in chosen]
        rows = [
            f"step {step}: observation {_in_short(clip.observations[step])}, action {_in_short(clip.actions[step])}"
            for step in chosen
        ]
        return [{"type": "text", "text": "\n".join(rows)}]

    def _reply(self, request: dict[str, Any]) -> str:
        text = json.dumps({"url": self.endpoint.url, **request}, sort_keys=True)
        kept = self.cache / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
        try:
            words = json.loads(kept.read_text(encoding="utf-8"))["reply"]
        except (OSError, ValueError, KeyError, TypeError):  # none, or not whole
            words = self._send(request)
            self.cache.mkdir(parents=True, exist_ok=True)
            about = {"question": request["messages"][0]["content"][0]["text"], "reply": words}
            write_whole(kept, (json.dumps(about, indent=1) + "\n").encode())
        else:
            self.cached += 1
        return str(words)

    def _send(self, request: dict[str, Any]) -> str:
        import openai

        try:
            reply = self._client.chat.completions.create(**request)
            words = reply.choices[0].message.content
            if not isinstance(words, str):
                raise TypeError(f"its message holds {words!r:.80}")
        except (openai.OpenAIError, LookupError, AttributeError, TypeError, ValueError) as error:
            status = getattr(error, "status_code", None)
            said = " ".join(str(error).split()).rstrip(".")
            cause = error.__cause__ or error.__context__
            why = f"{said}{f' ({cause})' if status is None and cause and str(cause) else ''}"
            raise UserError(
                f"the model {self.endpoint.model!r} at {self.endpoint.url} did not answer after "
                f"{1 + self.endpoint.retries} tries ({why:.300}): see that it is there and takes chat completions; "
                f"what was answered before is kept, and the run goes on with --resume."
            ) from error
        self.requests += 1
        if reply.usage is not None:
            self.input_tokens += reply.usage.prompt_tokens
            self.output_tokens += reply.usage.completion_tokens
        return words


def _verdict(words: str) -> Verdict:
    """The last verdict in a reply: models reason first, and name clips as they do."""
    lines = [line for line in words.strip().splitlines() if line.strip()]
    found = VERDICT.findall(lines[-1]) if lines else []
    return Verdict(WEIGHTS[found[-1]] if len(set(found)) == 1 else None, words)


def _as_url(frame: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    iio.imwrite(file, frame, extension=".png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _in_short(values: NDArray[Any]) -> str:
    flat = np.asarray(values, np.float64).ravel()
    more = f" and {flat.size - MOST_NUMBERS} more" if flat.size > MOST_NUMBERS else ""
    return f"[{', '.join(f'{value:.3g}' for value in flat[:MOST_NUMBERS])}{more}]"
