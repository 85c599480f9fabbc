package branch

// Erasable reports true: branch keys exist to be erased. Package files/attach makes no
// recovery wraps for records under them, because those would outlive the key.
func (p *Provider) Erasable() bool { return true }
