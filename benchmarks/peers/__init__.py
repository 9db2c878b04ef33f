"""What other libraries do with the same work, each as its documentation shows it."""
