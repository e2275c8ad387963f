"""What every room needs: errors, files, locks, strings that others wrote, exact products. Imports no other room."""
