"""What an application calls the verbs with: connections and sessions, sync and async."""
