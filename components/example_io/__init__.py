"""tf.Example and TFRecord, read and written by several components."""
