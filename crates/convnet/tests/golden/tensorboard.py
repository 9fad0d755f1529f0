"""The bytes of an event file by TensorBoard 2.21's protocol buffers and record writer, for
crates/convnet/src/train/tensorboard.rs: pip install tensorboard."""

import io

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

out = io.BytesIO()
writer = RecordWriter(out)
writer.write(Event(wall_time=1_700_000_000.0, file_version="brain.Event:2").SerializeToString())
time = 1_700_000_000.0
for step in [1, 300]:
    time += 1.5
    scalars = {"loss/train": 0.5, "loss/val": 0.25, "accuracy/train": 0.75, "accuracy/val": 0.875}
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
    writer.write(Event(wall_time=time, step=step, summary=Summary(value=values)).SerializeToString())
print(out.getvalue().hex())
