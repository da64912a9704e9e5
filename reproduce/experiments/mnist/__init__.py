"""The MNIST tutorial's network and other convolutional networks, original and overparameterized."""
