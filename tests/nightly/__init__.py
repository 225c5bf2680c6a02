"""What is too long for every change (`make test-nightly`)."""
