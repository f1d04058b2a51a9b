"""What cnnforge shows: tables of a model and of a plan."""
