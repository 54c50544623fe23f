"""What training is made of: the loop with its checkpoints, batches of pairs, losses, a teacher's targets."""
