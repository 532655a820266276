"""The ground: knows Keras and TensorFlow, nothing else of this package."""
