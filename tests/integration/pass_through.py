"""The smallest service there is: every record of one topic goes to another. For test_exactly_once.py.

Usage: pass_through.py NAME INPUT_TOPIC OUTPUT_TOPIC, everything else as settings in the environment.
"""

import sys

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from millrace_common.records import Counts, Outcome, Output, Polled, SinkItem, SourceItem
from millrace_common.service import Parts, run
from millrace_common.settings import ServiceSettings
from millrace_common.signals import stop_event


def main(name: str, input_topic: str, output_topic: str) -> int:
    def pass_on(item: SourceItem) -> SinkItem:
        if not isinstance(item, Polled):
            return item
        records = item.records
        output = Output(output_topic, [record.key() for record in records], [record.value() for record in records])
        return Outcome(item.span, Counts(len(records), len(records)), (output,), records=records)

    def build(parts: Parts, settings: ServiceSettings) -> Dataflow:
        parts.refuse_uneven_topics(input_topic, output_topic)
        source = parts.source([input_topic], outputs={input_topic: output_topic})
        flow = Dataflow(name)
        items = op.input("read", flow, source)
        op.output("write", op.map("pass_on", items, pass_on), parts.sink(source, [output_topic]))
        return flow

    return run(name, ServiceSettings, build, stop_event())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
