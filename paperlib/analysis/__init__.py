"""What is measured on networks and runs: tables, neither drawn nor judged."""
