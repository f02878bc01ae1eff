"""Replays or simulates shop traffic, with a truth to check against."""

from millrace_generator.faults import Faults, with_faults
from millrace_generator.replay import replay_plan
from millrace_generator.scenarios import backfill_plan, normal_plan, spike_plan, window_plan
from millrace_generator.sender import StoppableClock
from millrace_generator.sending import Progress, SendReport, Target, send
from millrace_generator.traffic import Plan
from millrace_generator.truth import read_truth, truth_file

__all__ = [
    "Faults",
    "Plan",
    "Progress",
    "SendReport",
    "StoppableClock",
    "Target",
    "backfill_plan",
    "normal_plan",
    "read_truth",
    "replay_plan",
    "send",
    "spike_plan",
    "truth_file",
    "window_plan",
    "with_faults",
]
