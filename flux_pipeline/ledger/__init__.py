"""What was asked, accepted and finished, and what it may cost: nothing is sent without it."""
