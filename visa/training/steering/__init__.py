"""Training of soft prompts: everything is frozen but the few vectors that steer a model's attention."""
