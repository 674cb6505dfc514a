"""Pages of the clearing layer; thin: rights, a selector or a service, a template."""
