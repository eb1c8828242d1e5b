"""Values -> what people read: tables, the model card, the page."""
