"""Events of the trail, in their order: filtered, in pages, or as they come."""
