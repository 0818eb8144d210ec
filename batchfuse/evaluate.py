"""Figures of many scenes: each surveyed, then each of its images measured, in several processes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from batchfuse.errors import BatchfuseError, RecipeError, SceneError, bugs_told
from batchfuse.evaluation.contenders import Contender
from batchfuse.evaluation.figure_names import label, why_undefined
from batchfuse.evaluation.results import Evaluation, Figures, Measured, weighted
from batchfuse.job import Job
from batchfuse.measuring import Part, Settings, Subject, Survey, measure, survey
from batchfuse.processes import Submit, processes

__all__ = ["evaluate"]

AHEAD = 2  # tasks a process: one that it does, one that waits for it

Advance = Callable[[str, float], None]
Wanted = tuple[Part, Contender] | None
"""An image to measure, or None for the survey of its scene."""


def evaluate(
    subjects: Sequence[Subject],
    settings: Settings,
    workers: int = 1,
    advance: Advance = lambda _, __: None,
) -> Evaluation:
    """Measures scenes; one that can't be measured doesn't keep the others from it.

    Args:
        subjects: the scenes.
        settings: what is measured of them.
        workers: processes; with 1, this one.
        advance: told the name of a scene, and by what share of it the work went on; 1 a scene in the end.

    Raises:
        RecipeError: the call is wrong.
        BatchfuseError: a process was killed.
    """
    work = _Work(subjects, settings, advance)
    if len(subjects) == 1:  # how much there is to share is known only then
        with processes(1) as submit:
            work.run(submit, 1, surveys_only=True)
    number = max(1, min(workers, work.images))
    with processes(number) as submit:
        work.run(submit, AHEAD * number)
    return Evaluation(settings.figures, settings.contenders, settings.stretch, tuple(work.results()))


@dataclass
class _Scene:
    """A scene under way."""

    subject: Subject
    survey: Survey | None = None
    refused: BatchfuseError | None = None
    """Why it can't be measured."""
    told: float = 0.0
    """How much of it is done."""
    found: dict[Contender, list[tuple[int, Figures]]] = field(default_factory=dict)
    """Of each contender, pixels and figures of each part."""

    @property
    def name(self) -> str:
        return self.subject.scene.name if isinstance(self.subject, Job) else self.subject.name


class _Work:
    """All that is to be done, and what was found."""

    def __init__(self, subjects: Sequence[Subject], settings: Settings, advance: Advance) -> None:
        self._scenes = [_Scene(subject) for subject in subjects]
        self._settings = settings
        self._advance = advance
        self._waiting: deque[tuple[_Scene, Wanted]] = deque((scene, None) for scene in self._scenes)

    @property
    def images(self) -> int:
        """How many are to be measured, as far as it is known."""
        return sum(1 if wanted else len(self._settings.contenders) for _, wanted in self._waiting)

    def run(self, submit: Submit, most: int, surveys_only: bool = False) -> None:
        """Does everything, with at most ``most`` tasks under way."""
        under_way: dict[Future[Any], tuple[_Scene, Wanted]] = {}
        while under_way or self._waiting:
            if surveys_only and not under_way and self._waiting[0][1] is not None:
                return
            while self._waiting and len(under_way) < most:
                scene, wanted = self._waiting.popleft()
                under_way[self._submitted(submit, scene, wanted)] = scene, wanted
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                self._take(future, *under_way.pop(future))

    def results(self) -> Iterator[Measured]:
        """Scene by scene, as they were given."""
        return map(self._result, self._scenes)

    def _submitted(self, submit: Submit, scene: _Scene, wanted: Wanted) -> Future[Any]:
        if wanted is None:
            return submit(_told, survey, scene.subject, self._settings)
        return submit(_told, measure, scene.survey, *wanted, self._settings)

    def _take(self, future: Future[Any], scene: _Scene, wanted: Wanted) -> None:
        try:
            result = future.result()
        except RecipeError:
            raise
        except BatchfuseError as error:
            self._fail(scene, error)
            return
        contenders = self._settings.contenders
        if wanted is None:
            scene.survey = result
            # before scenes that are not begun: what is known of one is not kept for long
            self._waiting.extendleft((scene, (part, one)) for part in result.parts for one in contenders)
        elif scene.refused is None:
            part, contender = wanted
            scene.found.setdefault(contender, []).append((part.window.size, result))
            assert scene.survey is not None
            self._tell(scene, 1 / (len(scene.survey.parts) * len(contenders)))

    def _fail(self, scene: _Scene, error: BatchfuseError) -> None:
        if scene.refused is None:
            scene.refused = error
            self._waiting = deque(item for item in self._waiting if item[0] is not scene)
            self._tell(scene, 1 - scene.told)

    def _tell(self, scene: _Scene, share: float) -> None:
        scene.told += share
        self._advance(scene.name, share)

    def _result(self, scene: _Scene) -> Measured:
        if scene.refused is not None:
            return Measured(scene.name, str(scene.refused), traceback=scene.refused.behind)
        assert scene.survey is not None
        boxes = dict.fromkeys((*part.window.start, *part.window.stop) for part in scene.survey.parts)
        return Measured(
            scene=scene.name,
            shape=scene.survey.comparison.shape,
            windows=[(top, left, bottom, right) for top, left, bottom, right in boxes],
            figures={one.key: weighted(scene.found[one]) for one in self._settings.contenders},
            notes=(*scene.survey.notes, *self._undefined(scene, scene.survey)),
        )

    def _undefined(self, scene: _Scene, found: Survey) -> Iterator[str]:
        """A sentence for each figure that isn't defined everywhere."""
        parts, contenders = len(found.parts), self._settings.contenders
        for figure in self._settings.figures:
            gaps = [sum(math.isnan(part[figure]) for _, part in scene.found[one]) for one in contenders]
            never = [one.label for one, gap in zip(contenders, gaps, strict=True) if gap == parts]
            if never:
                of = ", ".join(never) if len(never) < len(contenders) else ""
                yield why_undefined(figure, len(found.comparison.work.scalings), of)
            elif any(gaps):
                yield (
                    f"{label(figure)} is not defined in {max(gaps)} of {parts} parts: its mean is over the "
                    "others"
                )


def _told(function: Callable[..., Any], *arguments: Any) -> Any:
    """A task: what it raises is ours, which travels between processes as it is."""
    try:
        with bugs_told():
            return function(*arguments)
    except SceneError as error:
        if isinstance(error.__cause__, MemoryError):
            raise SceneError("there is not enough memory: give a smaller --workers") from None
        raise
