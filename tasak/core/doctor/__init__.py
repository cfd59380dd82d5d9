"""What `tasak doctor` looks at: it reads files and versions, starts nothing, and asks no server anything."""
