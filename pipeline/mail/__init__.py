"""Mail: from the topic to the mail server, each at most once.

`record` is what a mail says, `render` how it reads, `outbox` what is still to be sent: all pure.
`smtp` talks to the mail server, `partition` owns one partition's outbox, `mailer` is the group's member.
"""
