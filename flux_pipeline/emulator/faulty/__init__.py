"""What goes wrong, in detail: faulty replies, outcomes, files and connections, by their names."""
