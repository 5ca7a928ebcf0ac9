"""Networks as plain `nn.Module`s, without Lightning or config, so that each can be copied into another project."""
