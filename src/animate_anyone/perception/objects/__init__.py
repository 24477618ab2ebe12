"""Objects that a person holds or touches: locators, tracking, and the file of marks made by hand."""
