"""The proof: sends and reads real mail in a running sandbox and says of each claim whether it holds."""

from mailinfra.probe.report import as_json, render
from mailinfra.probe.row import Claim, Row, Stage
from mailinfra.probe.runner import CLAIMS, run

__all__ = ["CLAIMS", "Claim", "Row", "Stage", "as_json", "render", "run"]
