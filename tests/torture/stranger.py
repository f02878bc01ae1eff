"""A lake that somebody has started by mistake: another consumer group on the same tables."""

import sys

from millrace_common.service import run
from millrace_common.signals import stop_event
from millrace_lake.app import build
from millrace_lake.settings import LakeSettings

if __name__ == "__main__":
    sys.exit(run("stranger", LakeSettings, build, stop_event()))  # the name makes the group
