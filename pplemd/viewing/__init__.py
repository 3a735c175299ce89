"""What people see meanwhile: who is told, on a terminal, as a picture."""
