"""No two accounts whose names differ only in capital and small letters.

Where two are there already this stops: rename one of them first, neither of the two can sign in."""

from django.db import migrations, models
from django.db.models.functions import Lower


class Migration(migrations.Migration):
    dependencies = [
        ("agency", "0008_reader"),
    ]

    operations = [
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                Lower("username"),
                name="one_account_per_username",
                violation_error_message="这个账号已有人使用，请换一个（不区分大小写）。",
            ),
        ),
    ]
