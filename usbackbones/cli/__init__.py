"""One file a command of `usbackbones`. What a command needs is imported when it runs, so that help stays quick."""
