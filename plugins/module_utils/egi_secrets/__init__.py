"""The controller's side of the EGI secret management service: typed code that knows no Ansible."""
