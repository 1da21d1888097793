"""Messages stored as they came, settled with their answers, and the inbox in which those wait that need somebody."""
