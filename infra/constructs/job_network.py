"""Creates a network for SageMaker jobs that has no way to the internet."""

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.nag import acknowledge
from infra.stacks.data import DataStack

# The services that jobs call themselves. Everything else that a job needs is S3 and the table.
_SERVICES = {
    "Sts": ec2.InterfaceVpcEndpointAwsService.STS,
    "Ssm": ec2.InterfaceVpcEndpointAwsService.SSM,
    "SecretsManager": ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
}


class JobNetwork(Construct):
    """Subnets in two zones with endpoints for S3, DynamoDB and the other services of jobs.

    Jobs may read any bucket that their credentials open, because customers' files are there. They may write only to the
    bucket of the stage.
    """

    def __init__(self, scope: Construct, id: str, *, data: DataStack) -> None:
        super().__init__(scope, id)
        vpc = ec2.Vpc(
            self,
            "Vpc",
            max_azs=2,
            nat_gateways=0,
            restrict_default_security_group=False,
            subnet_configuration=[
                ec2.SubnetConfiguration(name="Jobs", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=24)
            ],
        )
        acknowledge(vpc, "Jobs reach AWS's endpoints only, and nothing reaches them.", "AwsSolutions-VPC7")
        jobs = ec2.SecurityGroup(self, "Jobs", vpc=vpc, description="SageMaker jobs", allow_all_outbound=False)
        # The address of S3's endpoint is not fixed, and the routes lead nowhere else.
        jobs.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS services")
        # The instances of one training talk to each other on any port, and by IPsec, because that is encrypted.
        jobs.connections.allow_internally(ec2.Port.all_traffic(), "Instances of a training")
        files = vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        files.add_to_policy(_statement(["s3:Get*", "s3:List*"], ["*"]))
        files.add_to_policy(_statement(["s3:*"], [data.bucket.bucket_arn, data.bucket.arn_for_objects("*")]))
        # Jobs of runs record finished parts.
        items = vpc.add_gateway_endpoint("DynamoDb", service=ec2.GatewayVpcEndpointAwsService.DYNAMODB)
        items.add_to_policy(_statement(["dynamodb:*"], [data.table.table_arn]))
        services = ec2.SecurityGroup(
            self, "Services", vpc=vpc, description="Endpoints of AWS services", allow_all_outbound=False
        )
        services.add_ingress_rule(jobs, ec2.Port.tcp(443), "SageMaker jobs")
        for name, service in _SERVICES.items():
            vpc.add_interface_endpoint(name, service=service, security_groups=[services], open=False)
        self.subnets = [subnet.subnet_id for subnet in vpc.isolated_subnets]
        self.security_group = jobs.security_group_id
        # SageMaker attaches machines to the network with the role of the job. The first actions know no resources.
        describe = ("DhcpOptions", "NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs")
        self.statements = [
            iam.PolicyStatement(
                actions=["ec2:DeleteNetworkInterfacePermission", *(f"ec2:Describe{name}" for name in describe)],
                resources=["*"],
            ),
            iam.PolicyStatement(
                actions=[
                    "ec2:CreateNetworkInterface",
                    "ec2:CreateNetworkInterfacePermission",
                    "ec2:DeleteNetworkInterface",
                ],
                resources=[
                    cdk.Stack.of(self).format_arn(service="ec2", resource=resource, resource_name="*")
                    for resource in ("network-interface", "security-group", "subnet")
                ],
            ),
        ]


def _statement(actions: list[str], resources: list[str]) -> iam.PolicyStatement:
    return iam.PolicyStatement(principals=[iam.AnyPrincipal()], actions=actions, resources=resources)
