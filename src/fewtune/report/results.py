"""What a study's records say, for Python: tables, charts, decisions, the report.

Owns how an analysed study is handed out; what it says is `analysis`, how it is drawn `report`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewtune.analysis.audit.finding import Finding
from fewtune.analysis.decision import Decision
from fewtune.analysis.recommend import CostBudget, recommend
from fewtune.analysis.study import StudyAnalysis, analyse_folder
from fewtune.errors import FewtuneError, name_choices
from fewtune.guarantee import Guarantee
from fewtune.plurals import pluralise
from fewtune.records import Record

if TYPE_CHECKING:
    import altair
    import polars


@dataclass(frozen=True, repr=False)
class StudyResult:
    """An analysed study and the folder that holds its records."""

    folder: Path
    analysis: StudyAnalysis

    def __repr__(self) -> str:
        counts = Counter(record.status for record in self.records)
        trials = ", ".join(f"{count} {status}" for status, count in counts.most_common()) or "no trials"
        return f"<StudyResult {self.name!r}: {trials}; in {self.folder}>"

    @property
    def name(self) -> str:
        """The study's name."""
        return self.analysis.name

    @property
    def records(self) -> Sequence[Record]:
        """Every trial's record, also of those that failed, were skipped or stopped."""
        return self.analysis.records

    @property
    def findings(self) -> Sequence[Finding]:
        """What the audit found, worst first."""
        return self.analysis.findings

    @property
    def decisions(self) -> Sequence[Decision]:
        """Which method to use for each task and number of shots, or what is missing; no limit on what it may cost."""
        return self.analysis.decisions

    @property
    def decision(self) -> Decision:
        """The decision of a study of one task and number of shots; raises FewtuneError where there are several."""
        if len(self.decisions) != 1:
            places = ", ".join(f"{d.question.task} at {pluralise(d.question.shots, 'shot')}" for d in self.decisions)
            raise FewtuneError(f"this study has {len(self.decisions)} decisions ({places}); take one of `decisions`.")
        return self.decisions[0]

    @property
    def answer(self) -> str:
        """The decisions in words, a line each: 'sentiment · 16 shots: Use lora: expected to lose 0.2 points …'."""
        from fewtune.report.wording import format_decision, format_question

        return "\n".join(f"{format_question(each)}: {format_decision(each)}" for each in self.decisions)

    def recommend(
        self, budget: CostBudget, within: float | None = None, guarantee: Guarantee | None = None
    ) -> list[Decision]:
        """The decisions within a budget; the tolerance and what has to be met are the study's own where not given."""
        study = self.analysis
        within = study.terms.within if within is None else within
        terms = replace(study.terms, within=within, budget=budget, guarantee=guarantee or study.terms.guarantee)
        return recommend([group.board for group in study.groups], study.records, study.reader, terms)

    def table(self) -> polars.DataFrame:
        """A row for each variant and test set of each group: scores with their intervals, and what they cost."""
        import polars

        from fewtune.report.export import list_rows

        return polars.DataFrame(list_rows(self.analysis), infer_schema_length=None)

    def plot(self, kind: str = "decision", group: int = 0) -> altair.Chart:
        """One group's chart, which a notebook shows: the decision, scores, or what they cost."""
        import altair

        from fewtune.report.answer import list_scored
        from fewtune.report.charts import DECISION, KINDS, draw_decision, draw_group

        if kind not in (DECISION, *KINDS):
            raise FewtuneError(name_choices(kind, (DECISION, *KINDS), "kind of chart"))
        if not -len(self.analysis.groups) <= group < len(self.analysis.groups):
            raise FewtuneError(f"group is {group}; this study has {len(self.analysis.groups)}, counted from 0.")
        decision = self.analysis.decision(self.analysis.groups[group].board)
        drawn = {chart.kind: chart for chart in draw_group(self.analysis.groups[group], [kind])}
        if kind == DECISION and list_scored(decision):
            drawn[kind] = draw_decision(self.analysis, decision)
        if kind not in drawn:
            raise FewtuneError(f"no variant of this group has what a chart of {kind} shows.")
        chart: Any = altair.Chart.from_dict(drawn[kind].specification)
        typed: altair.Chart = chart
        return typed

    def write_report(self) -> Path:
        """Write report.html beside the records and return its path."""
        from fewtune.report.page import write_report_page

        return write_report_page(self.analysis, self.folder)

    def _repr_html_(self) -> str:
        answer = "".join(f"<p>{escape(line)}</p>" for line in self.answer.splitlines())
        return f"{answer}{self.table()._repr_html_()}"


def read_result(folder: Path) -> StudyResult:
    """A folder that a study was run into, analysed; raises RecordError where it holds none."""
    return StudyResult(folder, analyse_folder(folder))
