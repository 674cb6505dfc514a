"""Broker accounts that have to go are noted until the broker has said that they are gone."""

from django.db import migrations, models

from devices.lookups import OLD_ACCOUNTS_SQL


class Migration(migrations.Migration):
    dependencies = [("devices", "0002_enrolment")]

    operations = [
        migrations.AddField(
            model_name="machine",
            name="old_accounts",
            field=models.JSONField(default=list),
        ),
        migrations.RunSQL(OLD_ACCOUNTS_SQL, migrations.RunSQL.noop),
    ]
