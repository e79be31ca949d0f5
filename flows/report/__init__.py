"""What people see of a run: tables, pictures, pages, Prefect artifacts."""
