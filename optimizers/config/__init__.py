"""What a configuration may say of an optimizer, checked without Keras."""
