"""What acts and learns from the reward it is paid."""
