"""Values to text: tables, shell commands, YAML and JSON.  Pure; prints nothing itself."""
