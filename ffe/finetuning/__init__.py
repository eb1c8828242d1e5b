"""Training that reaches into the backbone: staged fine-tuning from cached activations, and networks from scratch."""
