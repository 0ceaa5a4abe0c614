# From the sample to what is installed: the services' database, and the stop file beside it.
s,^#url = "sqlite:.*,url = "sqlite:////var/lib/vma-review-bot/state.db" # or postgresql://…,
s,^#stop_file = .*,stop_file = "/var/lib/vma-review-bot/STOP" # where it is\, nothing is sent,
