# A Rails application without its folder: opens every attachment of the documents
# that a test of package attach gives it, prints a line for each, and attaches more.
# Usage: ruby storage.rb DATABASE OBJECTS LOCKBOX_MASTER_KEY DOCUMENT_ID
require "rails"
require "active_record/railtie"
require "active_job/railtie"
require "active_storage/engine"
require "lockbox"
require "rbnacl"
require "sqlite3"
require "json"
require "digest"

DATABASE, OBJECTS, MASTER_KEY, DOCUMENT = ARGV
ENV["DATABASE_URL"] = "sqlite3:#{DATABASE}?timeout=20000"
Lockbox.master_key = MASTER_KEY

class Application < Rails::Application
  config.load_defaults 6.1
  config.root = File.dirname(DATABASE)
  config.eager_load = false
  config.logger = Logger.new(File::NULL)
  config.secret_key_base = "0" * 64
  config.active_storage.service = :local
  config.active_storage.service_configurations = {"local" => {"service" => "Disk", "root" => OBJECTS}}
  config.active_job.queue_adapter = :test # no job is run: nothing is analyzed
end
Application.initialize!

class Document < ActiveRecord::Base
  # What has_kms_key makes of a column under insecure-test-key.
  def kms_key(column = encrypted_kms_key)
    _, data, context = column.delete_prefix("v1:").unpack1("m0").split(":", 3)
    wanted = {model_id: id.to_s, model_name: "Document"}.to_json
    raise "context #{context.inspect}" unless context == [wanted].pack("m")
    data.unpack1("m0")
  end

  def kms_key_phone = kms_key(encrypted_kms_key_phone)

  has_one_attached :license
  has_one_attached :photo
  has_many_attached :scans
  has_one_attached :plain
  has_one_attached :bill
  encrypts_attached :license
  encrypts_attached :photo, key: :kms_key
  encrypts_attached :bill, key: :kms_key_phone
  encrypts_attached :scans, algorithm: "xsalsa20"
end

def show(attachment)
  content = attachment.download
  opened = attachment.open { |file| file.binmode.read }
  raise "open and download differ" unless opened.b == content.b
  puts({name: attachment.name, filename: attachment.filename.to_s, type: attachment.content_type,
    size: content.bytesize, sha256: Digest::SHA256.hexdigest(content)}.to_json)
end

document = Document.find(DOCUMENT)
attached = %i[license photo bill plain].select { |name| document.public_send(name).attached? }
attached.each { |name| show(document.public_send(name).attachment) }
document.scans.attachments.sort_by(&:id).each { |scan| show(scan) }

# Into the same record, what Go is to open.
attached.each do |name|
  document.public_send(name).attach(io: StringIO.new("#{name} of Rails " * 5000), filename: "#{name} ü.txt", content_type: "text/plain")
end
document.scans.attach(io: StringIO.new("scan of Rails"), filename: "scan.txt", content_type: "text/plain")
document.save!
