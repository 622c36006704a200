"""Small programs that an export carries where no other tool's format holds the model: they need no fewtune."""
