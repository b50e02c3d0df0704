need() { :; }
