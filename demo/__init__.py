"""The demo: a real access log through a pipeline whose processor is killed on the way."""
