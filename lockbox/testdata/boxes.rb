# Opens every box that a test of package lockbox wrote to standard input, and
# prints each plaintext sealed again.
require "json"
require "stringio" # Lockbox 0.6 forgets to
require "lockbox"
require "rbnacl"

cases = JSON.parse($stdin.read, symbolize_names: true)
puts JSON.generate(cases.map { |c|
  options = c.fetch(:options)
  data = c[:associated_data] ? {associated_data: c[:associated_data]} : {}
  box = Lockbox.new(**options)
  sealed = options[:encode] ? c[:box] : c[:box].unpack1("m0")
  raise "box #{c[:box].inspect}" if options[:encode] && [sealed.unpack1("m0")].pack("m0") != sealed
  plaintext = box.decrypt(sealed, **data).b
  raise "#{options} opens as #{plaintext.inspect}" unless plaintext == c[:plaintext].unpack1("m0")
  again = box.encrypt(plaintext, **data)
  options[:encode] ? again : [again].pack("m0")
})
