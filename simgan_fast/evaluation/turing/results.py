"""What a study found: the scores of each arm and each participant, for people, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

from simgan_fast.evaluation.turing.images import QUESTIONS
from simgan_fast.evaluation.turing.records import Answer, Participant
from simgan_fast.evaluation.turing.scores import KINDS, Score, score
from simgan_fast.evaluation.turing.study import Study

ARMS = ("refined", "raw")


@dataclass(frozen=True)
class PersonResult:
    """One participant, by number; their code stays out of results, as who has it can answer for them."""

    participant: int
    started: str
    score: Score


@dataclass(frozen=True)
class ArmResult:
    """One arm: `pooled`, the answers of all who answered at all; `finished`, how many of them judged all images."""

    arm: str
    finished: int
    pooled: Score
    participants: list[PersonResult]


def study_results(study: Study) -> list[ArmResult]:
    """The scores of each arm that has participants, and of each of them; who answered nothing is left out.

    >>> study_results(open_study("study"))[0].pooled.accuracy  # doctest: +SKIP
    0.517
    """
    people, answers = study.participants(), study.answers()
    found = [_arm_result(arm, people, answers) for arm in ARMS]
    return [result for result in found if result.participants]


def _arm_result(arm: str, people: list[Participant], answers: list[Answer]) -> ArmResult:
    by_person: dict[int, list[Answer]] = {}
    for answer in answers:
        if answer.arm == arm:
            by_person.setdefault(answer.participant, []).append(answer)
    each = [
        PersonResult(person.number, person.started, _score(by_person[person.number]))
        for person in people
        if person.number in by_person
    ]
    finished = sum(result.score.answers == len(KINDS) * QUESTIONS for result in each)
    return ArmResult(arm, finished, _score(a for own in by_person.values() for a in own), each)


def _score(answers: Iterable[Answer]) -> Score:
    confusion = {truth: dict.fromkeys(KINDS, 0) for truth in KINDS}
    for answer in answers:
        confusion[answer.truth][answer.said] += 1
    return score(confusion)


def results_json(study: Study) -> dict[str, Any]:
    """The sets and all results as what JSON can hold; docs/turing_test.md describes it."""
    sets = [
        {"name": name, "path": path, "digest": digest, "images": images}
        for name, path, digest, images in study.sets
    ]
    arms = [asdict(result) for result in study_results(study)]
    return {"study": str(study.folder), "interval": "Wilson 95 %", "sets": sets, "arms": arms}


def answers_csv(study: Study) -> str:
    """All answers, a row each, with the names of `Answer`'s fields above."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow([field.name for field in fields(Answer)])
    rows.writerows(map(astuple, study.answers()))
    return table.getvalue()


def results_table(study: Study) -> str:
    """The results for people, aligned."""
    results = study_results(study)
    if not results:
        return f"{study.folder}: no answers yet"
    return "\n\n".join("\n".join(_arm_lines(result)) for result in results)


def _arm_lines(result: ArmResult) -> list[str]:
    people = len(result.participants)
    confusion = result.pooled.confusion
    lines = [
        f"{result.arm}: {people} participant{'s' * (people > 1)}, {result.finished} finished",
        f"  {'':<16}{'said real':>12}{'said synthetic':>16}",
        *(
            f"  {truth:<16}{confusion[truth]['real']:>12}{confusion[truth]['synthetic']:>16}"
            for truth in KINDS
        ),
        f"  {'participant':<16}{'right':>12}{'accuracy':>16}{'95 % (Wilson)':>20}{'p':>10}",
    ]
    rows = [(str(person.participant), person.score) for person in result.participants]
    return lines + [_score_line(name, found) for name, found in [*rows, ("all", result.pooled)]]


def _score_line(name: str, found: Score) -> str:
    right = f"{found.right} of {found.answers}"
    accuracy, interval, p = score_texts(found)
    return f"  {name:<16}{right:>12}{accuracy:>16}{interval:>20}{p:>10}"


def score_texts(found: Score) -> tuple[str, str, str]:
    """Accuracy, interval and p as text; dashes where nothing was answered."""
    if found.accuracy is None or found.low is None or found.high is None or found.p is None:
        return "-", "-", "-"
    p = f"{found.p:.3f}" if found.p >= 0.0005 else f"{found.p:.1e}"
    return f"{found.accuracy:.1%}", f"{found.low:.1%} to {found.high:.1%}", p
