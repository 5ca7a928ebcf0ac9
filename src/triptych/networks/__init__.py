"""Networks as plain `nn.Module`s: no Lightning and no config, so that each can be copied into another project."""
